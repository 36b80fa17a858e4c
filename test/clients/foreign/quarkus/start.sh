#!/bin/bash
set -e
keytool -importcert -noprompt -alias holdfast -file "$SSL_CERT_FILE" -keystore trust.p12 \
  -storepass changeit
exec java -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit \
  -jar target/quarkus-app/quarkus-run.jar
