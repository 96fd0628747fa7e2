"""``statistics``: analyses of tables, side by side, each from sums over hospitals alone.

analysis      what one is: worker and driver in one class
agreed        what hospitals agree on first: rows, persons, levels of categories
frame         a hospital's rows, by column
kinds         the analyses there are, by their options
procedure     the steps of all of them together
result        what an analysis shows: tables, plots, notes
plots         drawings of these, as SVG
page          all of it as a page
multivariate  principal components, clusters, mixtures
survival      curves, tests and models of times to an event
regression    generalised linear models by a formula
"""
