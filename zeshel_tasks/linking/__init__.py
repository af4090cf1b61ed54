"""Links mentions: what turns the scores of several methods into one.

listwise.py    fits the weights of a linear score on lists of candidates
fusion.py      the final score of a candidate, and the best candidate of a mention
fit_fusion.py  fits the weights of the final score
metrics.py     accuracy of the linker, and of each score alone
"""
