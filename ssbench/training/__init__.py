"""From a spec to a pretrained encoder: views, the loop, what is learned before it, what is looked at along it.

This wing knows the contract of a method. It knows no particular method, no task, no record and no table.
"""
