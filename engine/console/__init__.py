"""The console in the browser: what operators see and do, over HTTP."""
