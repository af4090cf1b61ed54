"""Links mentions: what turns the scores of several methods into one.

words.py, names.py, bm25.py   lexical search in a world: words, names, BM25
hashes.py, word_counts.py     what files have instead of words, and the words of entities, counted
lexical.py                    the lexical index of a world
entity_set.py                 the entities among which mentions are linked, in one folder
mention_texts.py              the words of a mention and around it
features.py                   the features of a mention's candidates
retriever.py, search.py       the hybrid retriever, and retrieval with it and with each method alone
fusion.py                     the final score of a candidate, and the best candidate of a mention
listwise.py, fit_fusion.py    fit the weights of a score on lists of candidates, and those of the final score
calibration.py                the probability that the best candidate is right, and that the knowledge base has none
cascade.py, fit_cascade.py    which mentions are re-ranked, and how this is chosen
own_calibration.py            fits what the scores mean in one knowledge base
logistic.py, fit_calibration.py, reliability.py, calibration_metrics.py
                              fit these probabilities, and measure what they are worth
reranker.py                   the cross-encoder, ready to score candidates
evaluation_settings.py        how the evaluation linked the mentions
models.py, loaded_models.py    the models of a champion or a run, and the same in memory
link_config.py, linker.py     the settings to link with, and linking texts
metrics.py                    what is measured of the retriever and of the linker
"""
