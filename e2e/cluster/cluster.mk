# Targets for the cluster beyond up, images and down. Needs PY (the development environment's python).

tools: venv ## Compile Kubernetes' programs (cached)
	@$(PY) -m e2e.cluster tools

status: venv ## What runs in the cluster, and what doesn't
	@$(PY) -m e2e.cluster status

env: venv ## Shell lines that point kubectl to the cluster: eval "$$(make env)"
	@$(PY) -m e2e.cluster env

clean-cache: venv ## Remove the cluster with its caches too: images and Kubernetes' programs
	@$(PY) -m e2e.cluster clean

.PHONY: tools status env clean-cache
