"""Training from scratch at the speed of the hardware, for models of arc-mini's kind.

The stock layers of Transformers serve every model, and pay for it: hundreds of small operations a
layer, shapes that change, waiting for the device. Here the same decoder is written out once with
fixed shapes, compiled on a GPU, and fed by processes of its own; what it has learnt is exported to
the stock layout.
"""
