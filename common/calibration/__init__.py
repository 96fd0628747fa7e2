"""A model's predictions corrected for one hospital's patients, and thresholds: the arithmetic.

Recalibration (Cox 1958; Steyerberg, Clinical Prediction Models, chapter 15) leaves a model as it is
and corrects what it says by one or two numbers, fitted on rows that it wasn't trained on. What is
fitted are sums over rows, so hospitals can add them. It reads no file of a model and asks nobody.
"""
