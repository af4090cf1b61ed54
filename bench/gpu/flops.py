"""Counts the floating-point operations of the model from its shapes: the necessary ones, whatever a kernel does.

A product of [n, a] and [a, b] counts as 2nab. Only matrix products count: the linear layers, and in attention the
products of queries with keys and of weights with values. Softmax, GELU, LayerNorm, dropout, embeddings and the
optimizer do not count, nor does anything that a kernel computes twice (as attention does in its backward pass).
Operations that the package skips do not count either: in the last layer, all tokens but [CLS] only need keys and values
(``models/first_token.py``). The backward pass has two products for each product of the forward pass.
"""

from __future__ import annotations

from bench.gpu.shape import Shape

TRAINING = 3
"""Cost of a forward and a backward pass together, in forward passes."""


def tower_flop(shape: Shape, sequences: int, length: int) -> int:
    """Count a forward pass of one tower to the vector of [CLS].

    Args:
        shape: shape of the BERT.
        sequences: number of sequences.
        length: tokens of each sequence.
    """
    tokens = sequences * length
    return (shape.layers - 1) * _layer(shape, tokens, length) + _last_layer(shape, sequences, length)


def score_head_flop(shape: Shape, sequences: int) -> int:
    """Count a forward pass through the pooler and the cross-encoder's linear layer."""
    return product_flop(sequences, shape.hidden, shape.hidden) + product_flop(sequences, shape.hidden, 1)


def biencoder_step_flop(shape: Shape, mentions: int, length: int) -> int:
    """Count a training step: both towers at ``length`` tokens, and the scores of all mentions with all golds."""
    scores = product_flop(mentions, shape.hidden, mentions)
    return TRAINING * (2 * tower_flop(shape, mentions, length) + scores)


def pairs_flop(shape: Shape, pairs: int, length: int) -> int:
    """Count a forward pass of the cross-encoder over pairs of ``length`` tokens."""
    return tower_flop(shape, pairs, length) + score_head_flop(shape, pairs)


def product_flop(rows: int, inner: int, columns: int) -> int:
    """Count the product of [rows, inner] and [inner, columns]."""
    return 2 * rows * inner * columns


def _layer(shape: Shape, tokens: int, length: int) -> int:
    hidden, wide = shape.hidden, shape.intermediate
    projections = 4 * product_flop(tokens, hidden, hidden)  # query, key, value, output
    feed_forward = 2 * product_flop(tokens, hidden, wide)
    return projections + feed_forward + _attention(shape, tokens, length)


def _last_layer(shape: Shape, sequences: int, length: int) -> int:
    """Count keys and values for all tokens, and the rest for [CLS] only."""
    hidden, wide = shape.hidden, shape.intermediate
    keys_and_values = 2 * product_flop(sequences * length, hidden, hidden)
    first = 2 * product_flop(sequences, hidden, hidden) + 2 * product_flop(sequences, hidden, wide)
    return keys_and_values + first + _attention(shape, sequences, length)


def _attention(shape: Shape, queries: int, length: int) -> int:
    """Count 4 x length x hidden for each query, because all heads together are as wide as the model."""
    return 2 * product_flop(queries, shape.hidden, length)
