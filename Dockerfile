# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY cmd cmd
COPY internal internal
# TAGS: aws, azure, gcp or cloud for the logins of these clouds.
ARG TARGETOS TARGETARCH VERSION=dev COMMIT=unknown TAGS=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -tags "$TAGS" $(cat cmd/agent/gcflags) -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /towline ./cmd/agent

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /towline /towline
USER 65532:65532
EXPOSE 9797
ENTRYPOINT ["/towline"]
CMD ["run"]
