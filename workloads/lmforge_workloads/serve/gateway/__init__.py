"""The gateway of an InferenceService: keys, limits, prompt templates, sessions, and a place to wait for replicas.

proxy      the story of one request: who, may they, what is sent on, how the answer comes back
keys       who calls: API keys from a mounted Secret
limits     how much they may use; limits_redis shares that among gateway pods
body       what is sent on; templates, conversation and sessions change it
traffic    which revision it is for, while one is a canary, and what clients get from each
upstream   sends it, again where that does no harm; hold keeps it while no replica is ready; demand wakes replicas
sse        what an answer tells on its way through
app, server, __main__    FastAPI, uvicorn with a drain, the command line
"""
