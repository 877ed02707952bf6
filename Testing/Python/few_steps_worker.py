"""A worker that runs soft tissue in two steps, as the fixture ``few_steps`` does within the tests."""

from BrainGenLib import worker
from BrainGenLib.methods import soft_tissue

if __name__ == "__main__":
    soft_tissue.STEPS = 2
    worker.main()
