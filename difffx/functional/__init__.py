"""Pure signal processing: tensors in, tensors out, physical units. Imports torch only.

Import the file you need: `from difffx.functional import filters`, then `filters.sosfilt(x, sos)`.
"""
