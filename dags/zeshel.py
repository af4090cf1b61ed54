"""### Retrain the zero-shot entity linker

Download ZESHEL and any additional data sets, train a bi-encoder, retrieve candidates for train, valid and test in
parallel, train a cross-encoder on them, combine the scores of both, fit what the scores mean, compare the result with
the champion, write a report, promote the new model if it is better, and encode the store's knowledge bases for it.
*Trigger* opens a form with every setting; an empty field takes its value from the preset. If the data set has no
held-out mentions, the held-out tasks are skipped. `cut-worlds` divides the entities of a large world into shards, and
`encode-shard` is one task for each; without large worlds, it is skipped (`sharded_from`). Likewise,
`encode-segment` encodes parts of large knowledge bases, which `refresh-knowledge-bases` has cut and
`publish-knowledge-bases` puts to use.

| you want to | do this |
|---|---|
| see the results | read the table in the log of `report`, or press the report button in a task's *Details* |
| see the files of a stage | press the *Artifact* button next to it |
| start a run in spite of *Failed to Trigger Dag* | correct the value that is outside the bounds given below its field |
| decide yourself which model is promoted | set `approve`, if the form has it, and answer in *Required Actions* |
| return to the previous champion | run `zeshel rollback --store <store> --reason ...` |
| leave knowledge bases as they are | set `refresh` to false; `zeshel kb refresh` encodes them later |

#### When a task fails

Open its log. The last lines are the stage's own error message; the exception below repeats them.

| the exception says | exit code | retried | what to do |
|---|---|---|---|
| bad configuration | 2 | no | correct the named setting and trigger a new run |
| bad input data | 3 | no | fix the named file or object, then clear the task |
| asks for a retry | 75 | yes | nothing; if retries run out, restore the store or server, then clear the task |
| out of memory, or ended by signal 9 | 137 | yes | use smaller batches, or trigger a new run with more `memory` |
| the pod is gone or lost, was evicted or preempted | - | yes | nothing: the next try resumes from the last checkpoint |
| the image cannot be pulled | - | yes | correct `image`, or the Secret for its registry |
| the pod did not start | - | yes | read the message below, which names what no node offers: GPUs, memory, a label |
| Kubernetes refuses the pod | - | no | correct the value that the message names, or the cluster's policy |
| crashed, or no manifest | other | yes | read the traceback, remove the cause, then clear the task |

**Resume**: clear the failed task (*Clear task*, downstream included). A finished stage does not run again: it finds its
committed artifact and logs `reused`. A training resumes from its last checkpoint. A *new* run with the same settings
also reuses everything that has not changed.

**Locations**: the run is at `<store>/runs/<run id>`. Each task's XCom `return_value` and its asset event contain the
metrics. On Kubernetes, `kubectl get pods -l zeshel/run=<run id>` lists the run's pods; failed pods are kept until you
delete them. `zeshel show --run <address of the run>` prints which stages ran, which were reused, and where each
artifact is.
"""

from airflow.sdk import DAG, TriggerRule, chain

from zeshel_tasks.config.splits import HELDOUT_SPLITS
from zeshel_tasks.orchestration.factory import (
    RefreshTasks,
    ShardTasks,
    approval,
    dag_arguments,
    task_maker,
    trigger_form,
)
from zeshel_tasks.orchestration.settings import read_deployment

deployment = read_deployment()
stage = task_maker(deployment)
shards, bases = ShardTasks(deployment), RefreshTasks(deployment)

with DAG("zeshel", doc_md=__doc__, **dag_arguments(deployment)) as dag:
    download = stage("download")
    convert = stage("convert")
    train_biencoder = stage("train-biencoder")
    cut = shards.cut()
    encode = shards.encode(cut)
    fit_retrieval = stage("fit-retrieval", trigger_rule=TriggerRule.NONE_FAILED)  # there may be no large world
    candidates = [stage("eval-biencoder", split) for split in ("train", "valid", "test")]
    train_crossencoder = stage("train-crossencoder")
    scores = [stage("eval-crossencoder", split) for split in ("valid", "test")]
    fuse = stage("fuse", trigger_rule=TriggerRule.NONE_FAILED)  # held-out tasks may be skipped
    calibrate = stage("calibrate")
    compare = stage("compare")
    report = stage("report")
    approve = approval(deployment)
    promote = stage("promote")
    refresh = bases.refresh()

    chain(download, convert, train_biencoder, fit_retrieval, candidates, train_crossencoder, scores, fuse)
    chain(convert, cut, encode, fit_retrieval)
    train_biencoder >> encode
    chain(fuse, [calibrate, compare], report, approve, promote, refresh, bases.encode(refresh), bases.publish())

    # Held-out mentions belong to the training worlds, whose entities `eval-biencoder-train` has encoded.
    for split in HELDOUT_SPLITS:
        chain(candidates[0], stage("eval-biencoder", split), scored := stage("eval-crossencoder", split), fuse)
        train_crossencoder >> scored

dag.params = trigger_form(deployment)  # after the tasks, each of which would copy it
