"""`ssbench data`: what a source was understood as, on a page with pictures. Nothing that runs or judges needs it."""
