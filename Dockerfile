# A submission: `docker build -t flatland-submission .`
# By default it plays the remote evaluator of the Redis on the host in redis_ip. Trajectory graders start
# flatland-trajectory-generate-from-policy in it, which finds policy and observations by POLICY and OBS_BUILDER.
FROM python:3.11-slim

WORKDIR /submission
COPY requirements.txt .
# the CPU build of PyTorch: graders have no GPU, and CUDA would add some gigabytes
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu \
    && pip install --no-cache-dir --requirement requirements.txt
COPY run.py ./
COPY checkpoints/flatland_policy.pt checkpoints/
COPY reinforcement_learning reinforcement_learning
COPY utils utils

ENV PYTHONPATH=/submission \
    POLICY=reinforcement_learning.submission.Policy \
    OBS_BUILDER=reinforcement_learning.submission.ObservationBuilder \
    OMP_NUM_THREADS=1
# compiles what would otherwise be compiled while a grader's clock runs
RUN python -c "from reinforcement_learning.submission import Policy; Policy()"

CMD ["python", "run.py"]
