# make demo [DATA=DIR] | samples | page | test | lint | bench. Each sets up .venv by itself.
PYTHON ?= python3
# The grading environment's versions; CONSTRAINTS= takes the newest that requirements.txt allows.
CONSTRAINTS ?= -c .ci/constraints.txt
PY := .venv/bin/python
# A word of a shell, whatever is in it; and DATA as it was given, be there a $ in it.
quote = '$(subst ','\'',$(1))'
override DATA := $(value DATA)
empty :=
# Functions that take paths part them at blanks.
RUN ?= results/demo$(if $(DATA),$(subst /,-,$(abspath $(subst $(empty) $(empty),_,$(DATA)))))
DATA_FLAGS := $(if $(DATA),--data_root $(call quote,$(DATA)),--data synthetic)
# More flags of train.py, e.g. to shorten it (with a RUN of its own, a run keeps its settings):
# make demo RUN=results/short DEMO_FLAGS="--num_iterations 20 --student_iterations 20 --warm_start 4 --disc_warmup 2"
DEMO_FLAGS ?=
EVALUATE_FLAGS ?= --num_samples 128 --teacher_nfe_list 15 1 --seeds 42

# Where published weights are, where they are expanded to, and what is sampled from them.
PRETRAINED ?= checkpoints/pretrained
EXPANDED ?= checkpoints/pretrained-expanded
SAMPLES ?= samples/pretrained
SAMPLES_FLAGS ?= --num_samples 64 --nfe_list 1 2 4 --batch_size 16 --device cpu

# A page that draws with them in the browser (docs/page.md); npm brings what runs it there.
PAGE ?= results/page
PAGE_FLAGS ?=

.PHONY: demo samples page weights test lint bench clean

demo: .venv/installed
	$(PY) train.py --preset tiny --recipe pairs --device cpu --save_dir $(call quote,$(RUN)) \
		--export_dir $(call quote,$(RUN)/checkpoints) $(DATA_FLAGS) $(DEMO_FLAGS)
	$(PY) sampling.py --ckpt_path $(call quote,$(RUN)/checkpoints/best_model.pt) \
		--save_dir $(call quote,$(RUN)/samples_nfe) --num_samples 64 --nfe_list 1 2 4 --device cpu
	$(PY) -m fewstep evaluate --run_dir $(call quote,$(RUN)) --teacher --device cpu $(EVALUATE_FLAGS)

# The weights come first: without them nothing is installed.
samples: weights .venv/installed
	$(PY) -m fewstep publish unpack --input_dir $(call quote,$(PRETRAINED)) \
		--ckpt_path $(call quote,$(EXPANDED)/best_model.pt) --force
	@echo sampling into $(call quote,$(SAMPLES)), the sheet of one evaluation an image first
	$(PY) sampling.py --ckpt_path $(call quote,$(EXPANDED)/best_model.pt) \
		--save_dir $(call quote,$(SAMPLES)) $(SAMPLES_FLAGS)
	@echo sheets of the published student: $(call quote,$(SAMPLES)/sheet_nfe=*.png)

page: weights .venv/installed
	$(PY) -m fewstep export --ckpt_path $(call quote,$(PRETRAINED)) \
		--page $(call quote,$(PAGE)) $(PAGE_FLAGS)

weights:
	@test -f $(call quote,$(PRETRAINED)/model.safetensors) || { \
		echo error: $(call quote,$(PRETRAINED)): there are no published weights yet\; make demo \
		trains a small student of your own, python -m fewstep publish pack publishes one >&2; exit 2; }

# Two processes of one thread each take the files in turn, in the order of tests/conftest.py.
TEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/installed
	OMP_NUM_THREADS=1 $(PY) -m pytest $(TEST_FLAGS)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Ratios of our step to the plain one, of sampling to the bare network, of the cache to decoding.
BENCH_FLAGS ?= --preset tiny --device cpu
bench: .venv/installed
	$(PY) -m fewstep bench train $(BENCH_FLAGS)
	$(PY) -m fewstep bench sample $(BENCH_FLAGS)
	$(PY) -m fewstep bench data $(filter-out --preset tiny full,$(BENCH_FLAGS))

clean:
	rm -rf .venv results/demo*

.venv/installed: requirements.txt tests/requirements.txt .ci/constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q -r requirements.txt -r tests/requirements.txt $(CONSTRAINTS)
	touch $@
