# A submission: `docker build -t flatland-submission .`, for graders with flatland-rl 4.2.6 with
# `--build-arg FLATLAND_RL=4.2.6`.
# By default it plays the remote evaluator of the Redis on the host in redis_ip. Trajectory graders start
# flatland-trajectory-generate-from-policy in it, which finds policy and observations by POLICY and OBS_BUILDER.
FROM python:3.11-slim

WORKDIR /submission
ARG FLATLAND_RL=4.3.0
COPY requirements-submission.txt .
# what is removed are tests, and files for building programs on PyTorch
RUN pip install --no-cache-dir --requirement requirements-submission.txt \
    && pip install --no-cache-dir --no-deps flatland-rl==${FLATLAND_RL} \
    && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && find torch/include torch/test torch/bin -type f ! -name torch_shm_manager -delete
COPY run.py ./
COPY checkpoints/flatland_policy.pt checkpoints/
COPY reinforcement_learning reinforcement_learning
COPY utils utils

# numba compiles for any processor of this kind, so that graders need not compile again
ENV PYTHONPATH=/submission \
    POLICY=reinforcement_learning.submission.Policy \
    OBS_BUILDER=reinforcement_learning.submission.ObservationBuilder \
    OMP_NUM_THREADS=1 \
    NUMBA_CPU_NAME=generic
# compiles what would otherwise be compiled while a grader's clock runs; whoever plays can read it
RUN python -c "from reinforcement_learning.submission import Policy; Policy()" && chmod -R a+rX /submission

CMD ["python", "run.py"]
