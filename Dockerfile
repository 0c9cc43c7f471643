FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release --package chatcaptain-operator --bin chatcaptain-operator

FROM debian:bookworm-slim
# the roots of trust for HTTPS to the chatbot service
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /source/target/release/chatcaptain-operator /usr/local/bin/
# nobody in particular; a number, as runAsNonRoot cannot judge a name
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["chatcaptain-operator"]
CMD ["run"]
