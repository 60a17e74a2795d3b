#!/bin/sh
# rootfs.sh PROGRAM FOLDER: the root file system of an image that holds this one program. It has the program, the shared libraries
# that it names, the certificate authorities of the machine that builds it, and folders to mount on; no shell, no package manager.
set -eu
program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/stormglass" "$root/var/lib/stormglass" \
    "$root/dev" "$root/proc" "$root/run" "$root/sys" "$root/tmp"
install -m 755 "$program" "$root/usr/bin/"

# The loader and the libraries, where the program will look for them.
ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# For receivers of alerts by HTTPS.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi
echo 'root:x:0:0:root:/:/nonexistent' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
