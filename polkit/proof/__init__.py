"""A proof on disk: the one reader and the one writer of its folder."""

from polkit.proof.checkpoints import (
    checkpoint_bytes,
    checkpoint_name,
    checkpoint_steps,
    read_checkpoint,
    tensor_shapes,
    write_checkpoint,
)
from polkit.proof.folder import (
    MANIFEST_BYTES,
    OPTIONAL_FILES,
    ROUNDING_LOG,
    Proof,
    expected_files,
    file_digest,
    most_logged,
    most_points,
    needs_points,
    open_proof,
    proof_points,
    publish,
    read_weights,
    record_path,
    seal,
    seed_commitment,
    write_manifest,
)
from polkit.proof.storage import (
    cache_folder,
    fresh_folder,
    journal_path,
    made_alone,
    partial_path,
    remembered,
    sweep,
    sync,
    sync_all,
    versions,
    write_text_whole,
    write_whole,
)
from polkit.proof.untrusted import (
    ProofError,
    bytes_digest,
    open_plain,
    parse_facts,
    parse_json,
    read_json,
    read_plain,
    shown,
)
