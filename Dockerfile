# The web page of a run: docker build -t dkgzsl . && docker run --rm -p 7860:7860 -v "$PWD/runs/birds:/run-folder:ro" dkgzsl
# Written and linted; it has not been built on the machines where this package is developed.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 DKGZSL_HOME=/home/dkgzsl/cache
RUN useradd --create-home --uid 1000 dkgzsl
WORKDIR /home/dkgzsl

COPY --chown=dkgzsl:dkgzsl pyproject.toml README.md LICENSE CITATION.cff ./package/
COPY --chown=dkgzsl:dkgzsl src ./package/src
COPY --chown=dkgzsl:dkgzsl examples ./package/examples
RUN pip install "./package[app,images,tables]"

USER 1000
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=4)"]
ENTRYPOINT ["dkgzsl", "app"]
CMD ["/run-folder", "--host", "0.0.0.0", "--port", "7860"]
