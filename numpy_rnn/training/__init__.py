"""Training, apart from any command line: a loop, learners that take its steps, texts, and files to resume from.

    text            what to learn from, and how it is cut into batches
    learner         one step of training, in NumPy; the loop sees only its protocol
    torch_learner   the same step in PyTorch, imported on demand
    processes       the processes that share each batch of it, one or several
    lockstep        both at once, held against each other
    checkpoint      everything that a run needs to go on, in one file
    loop            step after step, with validation, saving, and an end whenever it comes

The learners know nothing of texts beyond the batches they are handed, and the loop knows nothing of models.
"""
