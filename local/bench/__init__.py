"""``make bench``: what the product adds to the provider's minutes and fees, beside what people would use instead.

Each module is a part that runs alone and returns a `Section` of docs/benchmarks.md. Figures are compared within one run
on one machine; nothing here is a timed test.
"""
