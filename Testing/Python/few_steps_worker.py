"""A worker that runs folds and soft tissue in two steps, as the fixture ``few_steps`` does within the tests."""

from BrainGenLib import worker
from BrainGenLib.methods import folds, soft_tissue

if __name__ == "__main__":
    folds.STEPS = soft_tissue.STEPS = 2
    worker.main()
