"""Training, apart from any command line: a loop, learners that take its steps, texts, and files to resume from.

    objective       what a step sees, what is minimised, and its gradient
    learner         one step of training, in NumPy, of texts and tasks alike; the loop sees only its protocol
    torch_learner   the same step in PyTorch, imported on demand
    schedule        the learning rate of every step
    loop            step after step, with validation, saving, early stopping, the best weights, and an end at any time
    text            texts to learn from, and how they are cut into batches
    settings        what determines the training of a language model
    processes       the processes that share each batch of it, one or several
    events          event files for TensorBoard
    lockstep        both at once, held against each other
    checkpoint      everything that a run needs to go on, in one file

The learners know nothing of texts beyond the batches they are handed, and the loop knows nothing of models.
"""
