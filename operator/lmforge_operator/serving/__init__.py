"""What serving kinds share: revisions, rollout, scaling, the traffic path and status."""
