"""Corollary 1: how far the verifier's k separate updates can end from Attack III's one joint update."""

import torch

from polkit.adversary.perturb import Batch
from polkit.training import Checkpoint, Learner, load, loss_of
