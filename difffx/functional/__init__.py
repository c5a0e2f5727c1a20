"""Pure signal processing: tensors in, tensors out, physical units. Imports torch only.

Import the file you need: `from difffx.functional import cascade`, then `cascade.sosfilt(x, sos)`.
"""
