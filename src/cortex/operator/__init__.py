"""The control plane: deploy, submit, dispatch, supervise, tell. It speaks neither HTTP nor SQL."""
