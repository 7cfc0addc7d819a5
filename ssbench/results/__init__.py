"""What was found: records, how they are kept, how sure they are, and the tables made of them.

This wing knows specs and records. It knows no method, no task and no training; provenance alone asks torch.
"""
