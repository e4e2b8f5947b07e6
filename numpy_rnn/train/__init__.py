"""Training, apart from any command line: one run, one loop, one file to resume from, for texts and tasks alike.

task            what is learnt: three splits of sequences, and what is asked of them
batches         what each step sees
settings        what determines a run, and the learning rate of every step
learner         one step of training in NumPy; `torch_learner`: the same in PyTorch, and both at once
loop            START HERE: a run from its first step to its last, with all that happens in between
checkpoint      everything that a run needs to go on, in one file
processes       the processes that share each batch, one or several
language        texts to learn from, their vocabularies, a model that writes
tasks           real sequences, with baselines
"""
