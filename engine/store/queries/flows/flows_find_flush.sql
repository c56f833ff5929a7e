-- Whether a flush of unknown fate was committed: only once its backend is gone.
SELECT EXISTS (SELECT FROM flows.flushes WHERE worker = $1 AND sequence = $2 AND number = $3)
