# Sourced by the servers' scripts: an authority of their own and what it vouches for, all in
# the current folder.

# authority: ca.crt and ca.key.
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj "/CN=Tideway test authority" -keyout ca.key -out ca.crt 2>/dev/null
}

# certificate NAME SUBJECT EXTENSION: a key and a certificate that ca.crt vouches for.
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
    -extfile <(printf 'basicConstraints=CA:FALSE\n%s\n' "$3") -out "$1.crt" 2>/dev/null
}
