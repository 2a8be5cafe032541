# The ladder with its locked packages. The build ends with `ladder check`, so an image exists only if it passes.
#
#   docker build --tag ladder .
#   docker run --rm --interactive --tty --volume ladder:/home/ladder ladder
#
# The named volume keeps the repository with its models, DVC's cache and unfinished trainings between runs. It is filled
# from the image once: `docker volume rm ladder` after building another image. Ubuntu 24.04 has Python 3.12.
FROM ubuntu:24.04

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 ladder \
    && install --directory --owner ladder --group ladder /home/ladder/ladder

ENV LANG=C.UTF-8
USER ladder
WORKDIR /home/ladder/ladder

# With .git: DVC needs the repository, and `ladder diff` reads former commits.
COPY --chown=ladder:ladder . .
RUN make setup && .venv/bin/ladder check

ENV PATH=/home/ladder/ladder/.venv/bin:$PATH
CMD ["make", "ladder"]
