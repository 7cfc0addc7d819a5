"""Masked image modelling: which patches are hidden x what they must predict x how.

Three tables that know nothing of each other: `masks.MASKS`, `targets.TARGETS`, `architectures.ARCHITECTURES`. A new
entry is a function or a module and one line there. `model.MIM` joins one of each, `presets` names papers' combinations.
"""
