"""### Link files of texts with the champion

Link the mentions of all `*.jsonl` files of a folder or an S3 prefix against a knowledge base. *Trigger* opens a form:
name the knowledge base, the folder with the files and the folder for the results; empty fields keep their defaults.

1. `models` notes which models are the champion. All tasks of the run link with them, even if another model is promoted
   in the meantime.
2. `knowledge-base` builds the knowledge base from `entities`, if there are any, or encodes it again if another
   bi-encoder than the champion's has encoded it. If it has more than `sharded_from` entities, this task only cuts it
   into segments, `encode-segment` is one task for each, and `publish` puts them to use.
3. `list` lists the files, and checks the knowledge base and the settings.
4. `link` is one task for each file, or for several if there are more than `max_tasks`. Each has its own retries and
   log.
5. `join` checks that every file is linked as planned, writes `summary.json` next to the results, and updates the Asset
   `zeshel-links`.

The forms of a line of input and output are in `docs/linking.md`.

| you want to | do this |
|---|---|
| see what was linked | read the XCom of `join` or `link`, or `summary.json` |
| link files that came later, or have changed | trigger another run: it leaves the files that are linked as they are |
| link without the champion | name a run of the same store with `run`, and a `kb` of its bi-encoder or a new one |
| encode a knowledge base for models that are not the champion | set `refresh` to true |
| link while a knowledge base must not change | set `refresh` to false: the run fails if it would need other vectors |

#### When a task fails

Open its log. The last lines are the command's own error message; the exception below repeats them.

| the exception says | exit code | retried | what to do |
|---|---|---|---|
| bad configuration | 2 | no | correct the named setting and trigger a new run |
| bad input data | 3 | no | correct the named line of the file, then clear the task |
| asks for a retry | 75 | yes | nothing; if retries run out, restore the store, then clear the task |
| out of memory, or ended by signal 9 | 137 | yes | use smaller batches, or trigger a new run with more `memory` |
| the pod is gone or lost, was evicted or preempted | - | yes | nothing: the next try links only unfinished files |
| no record says that ... is linked as planned | 0 | yes | clear `list` and downstream: the knowledge base has changed |
| vectors of another bi-encoder than the run's models | - | no | trigger a run with the champion or with `refresh` |
| not linked as planned, or changed since | - | no | clear `list` and downstream: files have changed |
| crashed | other | yes | read the traceback, remove the cause, then clear the task |

**Resume**: clear the failed task (*Clear task*, downstream included). A file that is linked with the same models,
knowledge base and settings is not linked again, and a link task whose files are all finished needs no pod.
"""

from airflow.sdk import DAG, chain

from zeshel_tasks.orchestration.factory import LinkTasks, link_dag_arguments, link_form
from zeshel_tasks.orchestration.settings import read_deployment

deployment = read_deployment()
tasks = LinkTasks(deployment)

with DAG("zeshel_link", doc_md=__doc__, **link_dag_arguments(deployment)) as dag:
    models = tasks.models()
    knowledge_base = tasks.knowledge_base()
    encode = tasks.encode(knowledge_base)
    publish = tasks.publish()
    files = tasks.files()
    links = tasks.link(files)
    join = tasks.join()

    chain(models, knowledge_base, encode, publish, files, links, join)

dag.params = link_form(deployment)  # after the tasks, each of which would copy it
