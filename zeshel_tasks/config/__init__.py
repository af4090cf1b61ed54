"""Every setting of every stage, defined once and validated at construction.

Each stage has one frozen model. The command line, the YAML file, the DAG's trigger form and
``docs/hyperparameters.md`` are all generated from these models. Hyper-parameters keep the names of
BLINK's own flags.

stage_config.py                 the base of these models: how a setting is defined, checked and described
splits.py                       the splits of a data set
data.py                         download and convert
compute.py                      what all stages that run a model have in common
encoder.py                      what both training stages have in common
biencoder.py, retrieval.py      the bi-encoder, and retrieval with it
crossencoder.py                 the cross-encoder
results.py                      final score, probabilities, comparison, report and promotion
link.py                         linking texts, which is no stage
stages.py                       all settings of a run: a Recipe, which ../recipe.py builds from a preset and overrides
"""
