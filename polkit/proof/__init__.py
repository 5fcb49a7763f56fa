"""A proof on disk: the one reader and the one writer of its folder."""

from polkit.proof.checkpoints import checkpoint_name, checkpoint_steps, read_checkpoint, tensor_shapes, write_checkpoint
from polkit.proof.folder import ROUNDING_LOG, Proof, needs_points, open_proof, proof_points, publish, read_weights, seal
from polkit.proof.storage import cache_folder, fresh_folder, made_alone, remembered, versions, write_whole
from polkit.proof.untrusted import ProofError, read_json, shown
