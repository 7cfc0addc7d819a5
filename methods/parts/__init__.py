"""What methods of several families share: heads, queues, assignments. It knows none of them."""
