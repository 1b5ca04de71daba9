"""The published training as anybody would write it: NumPy, one model, one sample at a time. Reference and floor."""
from __future__ import annotations

import numpy as np


def train(X, W, importance, epochs, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8):
    """Batch-1 Adam on x' = ReLU(W^T W x + b); X [samples, n], W [k, n]. Returns W, b and each epoch's mean loss."""
    W, b = W.copy(), np.zeros(W.shape[1])
    m = [np.zeros_like(W), np.zeros_like(b)]
    v = [np.zeros_like(W), np.zeros_like(b)]
    t, losses = 0, []
    for _ in range(epochs):
        total = 0.0
        for x in X:
            t += 1
            h = W @ x
            pre = W.T @ h + b
            d = np.maximum(pre, 0) - x
            total += np.sum(importance * d**2)
            g = 2 * importance * d * (pre > 0)
            gradients = np.outer(h, g) + np.outer(W @ g, x), g
            for i, (parameter, gradient) in enumerate(zip((W, b), gradients, strict=True)):
                m[i] = beta1 * m[i] + (1 - beta1) * gradient
                v[i] = beta2 * v[i] + (1 - beta2) * gradient**2
                parameter -= lr * (m[i] / (1 - beta1**t)) / (np.sqrt(v[i] / (1 - beta2**t)) + eps)
        losses.append(total / len(X))
    return W, b, np.array(losses)
