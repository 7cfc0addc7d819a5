"""The networks that are judged: one interface over every trunk, and how a trunk is built by name.

This wing knows images and weights. It knows no data set, no method and no task.
"""
