"""The built-in text task: named entities in sentences, or a class of a whole text."""

from wardround.common.tasks.text.task import TextTask

__all__ = ["TextTask"]
