"""### Retrain the zero-shot entity linker

Download ZESHEL and the data sets beside it, train a bi-encoder, retrieve candidates for train, valid and test at the
same time, train a cross-encoder on them, evaluate both, compare with the champion, report, and promote what is better.
*Trigger* opens a form with every setting; what is left empty is as the preset says. The held-out tasks are skipped
where the data set has no held-out mentions.

| what you want | where |
|---|---|
| the results | the log of `report` has a table; *Details* of each task has a button to its part of the report |
| the files of a stage | the button *Artifact* beside it |
| a run in spite of *Failed to Trigger Dag* | a value is out of the bounds that the text below its field names |
| to decide yourself what is promoted | set `approve`; the question is in *Required Actions* |
| the champion before this one | `zeshel rollback --store <store> --reason ...` |

#### When a task fails

Open its log: the last lines are the stage's own error, repeated in the exception below them.

| the exception says | exit code | retried | what to do |
|---|---|---|---|
| bad configuration | 2 | no | trigger a new run with the named setting corrected |
| bad input data | 3 | no | mend the named file or object, then clear the task |
| asks to be tried again | 75 | yes | nothing; if retries run out, bring the store or the server back and clear it |
| out of memory, or ended by signal 9 | 137 | yes | smaller batches, or a new run with more `memory` |
| the pod is gone, was evicted or preempted | - | yes | nothing: the next try goes on from the last checkpoint |
| the image cannot be pulled | - | yes | correct `image`, or the Secret for its registry |
| the pod did not start | - | yes | the message below it says what no node has: GPUs, memory, a label |
| crashed, or no manifest | other | yes | read the traceback; clear the task once the cause is gone |

**Resume**: clear the failed task (*Clear task*, downstream included). A stage that is done is not done again: it finds
its committed artifact and says `reused`. A training goes on from its last checkpoint. A *new* run with the
same settings reuses all that is unchanged, too.

**Where things are**: the run is at `<store>/runs/<run id>`; each task's XCom `return_value` and its asset event hold
the metrics. On Kubernetes, `kubectl get pods -l zeshel/run=<run id>` lists its pods, and a failed one is kept until you
delete it. `zeshel show --run <that address>` prints what ran, what was reused, and where each artifact lies.
"""

from airflow.sdk import DAG, TriggerRule, chain

from zeshel_tasks.config import HELDOUT_SPLITS
from zeshel_tasks.orchestration.factory import approval, dag_arguments, task_maker
from zeshel_tasks.orchestration.settings import read_deployment

deployment = read_deployment()
stage = task_maker(deployment)

with DAG("zeshel", doc_md=__doc__, **dag_arguments(deployment)):
    download = stage("download")
    convert = stage("convert")
    train_biencoder = stage("train-biencoder")
    candidates = [stage("eval-biencoder", split) for split in ("train", "valid", "test")]
    train_crossencoder = stage("train-crossencoder")
    accuracy = [stage("eval-crossencoder", split) for split in ("valid", "test")]
    compare = stage("compare")
    report = stage("report", trigger_rule=TriggerRule.NONE_FAILED)  # a data set need not have held-out mentions
    approve = approval(deployment)
    promote = stage("promote")

    chain(
        download, convert, train_biencoder, candidates, train_crossencoder, accuracy, compare, report, approve, promote
    )

    # Held-out mentions are of the worlds of train, whose entities were encoded for the candidates of train.
    for split in HELDOUT_SPLITS:
        chain(candidates[0], stage("eval-biencoder", split), ranked := stage("eval-crossencoder", split), report)
        train_crossencoder >> ranked
