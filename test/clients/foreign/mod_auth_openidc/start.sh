#!/bin/bash
# Apache in the foreground, with a page that needs a signed-in user and one that does not.
set -e
mkdir -p "$FOLDER/site/private"
echo '{}' | tee "$FOLDER/site/private/index.json" > "$FOLDER/site/bye.json"
chmod -R a+rX "$FOLDER"
exec /usr/sbin/apache2 -d "$FOLDER" -f apache.conf -X
