"""Shipped suites: YAML files with the keys of `ssbench.plan.Suite`."""
