"""The adversary: Attacks I, II and III, and what is left of them without their adversarial examples."""

from polkit.adversary.attack_1 import attack_1
from polkit.adversary.attack_2 import attack_2
from polkit.adversary.attack_3 import attack_3
from polkit.adversary.forge import AttackFailed
from polkit.adversary.interpolation import interpolation_only
from polkit.adversary.path import on_the_path, sorted_initialisation
from polkit.adversary.perturb import Passes, squared_norm, weight_gradient
from polkit.adversary.plan import Batch, make_plan, original_batch, original_batches
