"""A small research container: it trains classifiers of handwritten digits and serves what it learnt.

It runs by itself and knows nothing of who reads it. Only the worker process loads scikit-learn.
"""

NAME = "digits-trainer"
