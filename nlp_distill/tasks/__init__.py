"""Tasks and the data that belongs to them: the GLUE table, your own files, and the packaged tweets."""

from nlp_distill.tasks.glue import GLUE, GlueTask, glue_task
from nlp_distill.tasks.glue_folder import load_glue_folder
from nlp_distill.tasks.glue_hub import load_glue_hub
from nlp_distill.tasks.own_files import add_unlabelled, load_own_files
from nlp_distill.tasks.packaged import TWEETS, load_packaged_tweets, packaged_teacher_path
from nlp_distill.tasks.sources import load_task
from nlp_distill.tasks.suite_file import read_suite_file
from nlp_distill.tasks.task import Task, TaskData, data_fingerprint

__all__ = [
    "GLUE",
    "TWEETS",
    "GlueTask",
    "Task",
    "TaskData",
    "add_unlabelled",
    "data_fingerprint",
    "glue_task",
    "load_glue_folder",
    "load_glue_hub",
    "load_own_files",
    "load_packaged_tweets",
    "load_task",
    "packaged_teacher_path",
    "read_suite_file",
]
