"""Where data comes from: one file a source, with what they share beside them. None of them decodes a pixel.

`identify(argument, settings)` gives a name and a fingerprint, `read(argument, settings)` a `Listing`; what is drawn is
given as it is drawn.
"""
