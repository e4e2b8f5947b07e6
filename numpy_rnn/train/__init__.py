"""Training, apart from any command line: one run, one loop, one file to resume from, for texts and tasks alike.

    task            what is learnt: three splits of sequences, what is asked of them; `tasks` has real ones
    objective       what a step sees, what is minimised, and its gradient
    settings        what determines a run, and the learning rate of every step
    learner         one step of training, in NumPy; the loop sees only its protocol
    torch_learner   the same step in PyTorch, imported on demand
    lockstep        both at once, held against each other
    loop            step after step, with validation, saving, early stopping, the best weights, and an end at any time
    run             what each step sees, who learns from that, and how far it is
    checkpoint      everything that a run needs to go on, in one file
    processes       the processes that share each batch, one or several
    language text   vocabularies, a model that writes; texts, and how they are cut into batches

The learners know nothing of texts beyond the batches they are handed, and the loop knows nothing of models.
"""
