# The submission, without network, root rights or a writable file system. Two kinds, as --target says:
# exec (the last one and so the default) scores one job a start; invoke is a server that scores many.
# CUDA 12 because older drivers accept it, and the platform does not publish its driver's version.
ARG BASE_IMAGE=pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime@sha256:6acf597eeb8e376a96580dde4952f37cc017fef732bb40bfc73f28f25e3f64b4

# Our files, readable by whoever runs them and byte-compiled, in a stage of their own: changing the
# mode of a file in a later layer would store the weights twice.
FROM ${BASE_IMAGE} AS files
COPY requirements.txt inference.py /opt/app/
COPY amf/ /opt/app/amf/
COPY model/ /opt/app/model/
RUN chmod -R a+rX,go-w /opt/app \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app \
    && find /opt/app -exec touch -d 2025-01-01 {} +

FROM ${BASE_IMAGE} AS common

# The base's own Python takes the packages: torch is there already and is kept, as it satisfies its pin.
# Debian's and Ubuntu's pip want that said twice; conda's ignores it. What cannot be written at run time
# is byte-compiled now (some packages ship templates that are no Python: those are passed over), by hash
# and not by time; and every file that is written gets one date, so that a second build is the same.
# The public base brings gcc for kernels compiled at run time, which nothing here asks for. On a CUDA base
# torch must be the base's: where the pins name another, pip brings a build for CUDA 13 without a word, and
# the platform's drivers would leave that on the CPU.
COPY requirements.txt sbom.py /opt/app/
RUN touch /tmp/start \
    && if command -v gcc; then apt-get purge --yes --auto-remove gcc; fi \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-compile \
        --root-user-action ignore --requirement /opt/app/requirements.txt \
    && python3 -B -c "import os, sys, torch; cuda = torch.version.cuda or 'none'; \
        sys.exit('NVIDIA_VISIBLE_DEVICES' in os.environ and not cuda.startswith('12.') and \
            f'torch {torch.__version__} is for CUDA {cuda}, expected 12.x: pin the torch of the base image')" \
    && python3 -c "import compileall, py_compile, sysconfig; \
        compileall.compile_dir(sysconfig.get_path('purelib'), quiet=2, workers=0, \
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)" \
    && SOURCE_DATE_EPOCH=1735689600 useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin \
        amf \
    && python3 /opt/app/sbom.py > /opt/app/sbom.json \
    && find / -xdev -type f -newer /tmp/start -exec touch -d 2025-01-01 {} + \
    && touch -d 2025-01-01 /opt/app/* \
    && rm /tmp/start

# /tmp is the one place that can be written, so it is home. torch brings the threads; numpy's own pool
# would only compete with them. Nothing may be fetched, so nothing is tried.
ENV HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1 \
    HF_HUB_OFFLINE=1

COPY --from=files /opt/app/ /opt/app/
WORKDIR /opt/app
USER 10001:10001

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="amf" \
      org.opencontainers.image.description="Normal or atypical mitotic figures: MIDOG 2025 Track 2" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM common AS invoke
LABEL org.grand-challenge.api-method="invoke"
ENTRYPOINT ["python3", "/opt/app/inference.py", "--serve"]

# Without the label the platform takes an image for exec.
FROM common AS exec
ENTRYPOINT ["python3", "/opt/app/inference.py"]
