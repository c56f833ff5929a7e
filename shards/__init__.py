"""Who decides which shard, and where: placement, leases, handing over, the operator's commands."""
