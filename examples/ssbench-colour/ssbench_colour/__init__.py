"""The plugin of docs/add-a-method.md and docs/add-a-task.md, as a package."""
