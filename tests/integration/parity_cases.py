# SPDX-License-Identifier: Apache-2.0
"""The parity suite's cases by docker's command line (parity.py says what a step is, and what exists already)."""

import re

from parity import Case


def table(text):
    return [line.strip() for line in text.strip().splitlines() if line.strip() and not line.startswith("#")]


# ---- what only looks ----

FILTERS = {
    "ps -a --format {{.Names}}": """a status=running status=exited status=paused status=created status=dead exited=3
        exited=0 label=a label=a=1 label=b=two label=nosuch name=w- name=^w-run$ name=run$ id=@w-run.short@
        ancestor=busybox ancestor=second:1 ancestor=@busybox@ ancestor=nosuch volume=w-vol volume=/data network=w-net
        network=bridge network=nosuch publish=80 publish=81 publish=80/udp expose=99 expose=98-100/tcp before=w-run
        since=w-run since=nosuch health=none health=healthy is-task=false is-task=true isolation=default status=bogus
        exited=x bogus=1 publish=x""",
    "images --format {{.Repository}}:{{.Tag}}": """dangling=true dangling=false dangling=x label=rich label=rich=1
        label=nosuch reference=busybox reference=*:1 reference=second:* reference=registry.example:5000/*/* before=rich:v1
        since=busybox before=nosuch reference=[ bogus=1""",
    "network ls --format {{.Name}}": """name=w- name=w-net id=@nosuch@ driver=bridge driver=host driver=bogus label=role
        label=role=test label=role=x type=custom type=builtin type=bogus scope=local scope=global dangling=true
        dangling=false dangling=x bogus=1""",
    "volume ls --format {{.Name}}": """name=w-vol name=vol2 driver=local driver=bogus label=keep label=keep=no
        dangling=true dangling=false dangling=x bogus=1""",
    "events --since @t0@ --until @t1@ --format {{.Type}}-{{.Action}}": """type=network type=volume type=image
        type=container,event=die event=create container=w-exit container=w-run image=busybox label=a=2 network=w-net
        volume=w-vol type=bogus event=bogus scope=local""",
}

LOOKS = table("""
ps
ps -a
ps -q
ps -aq --no-trunc
ps -l
ps -n 2
ps -a --no-trunc
ps -as
ps -a --format "table {{.Names}}\\t{{.Image}}\\t{{.Command}}\\t{{.Status}}\\t{{.Ports}}"
ps -a --format "{{.Names}} {{.Mounts}} {{.Networks}} {{.State}} {{.LocalVolumes}} {{.Size}}"
ps -a --format "{{json .}}"
ps -a --filter status=running --filter status=paused --format {{.Names}}
ps -a --filter label=a --filter label=b --format {{.Names}}
ps -a --filter name=w-run --filter name=w-exit --format {{.Names}}
images
images -a
images -q
images --digests
images --no-trunc
images busybox
images second:1
images nosuch
images registry.example:5000/third/image
images *:v*
images --format "{{json .}}"
image ls rich
image inspect busybox
image inspect rich:v1
image inspect @rich@
image inspect nosuch
image inspect busybox nosuch
image history busybox
history rich:v1 --no-trunc --format "{{.CreatedBy}}|{{.Comment}}"
history -q busybox
history nosuch
history @rich.short@
network ls
network ls --no-trunc -q
network inspect bridge
network inspect host
network inspect none
network inspect w-net
network inspect w-int
network inspect nosuch
network inspect -f "{{.Name}} {{.Driver}} {{.Internal}} {{.Scope}}" w-net w-int
volume ls
volume ls -q
volume inspect w-vol
volume inspect nosuch
volume inspect -f "{{.Name}} {{.Driver}} {{.Labels.keep}}" w-vol
inspect w-made
inspect w-exit
inspect w-run
inspect w-net1
inspect w-paused
inspect -s w-made
inspect @w-run@
inspect @w-run.short@
inspect nosuch
inspect w-net
inspect w-vol
inspect rich:v1
inspect --type container busybox
inspect --type image w-run
inspect --type network w-net
inspect --type volume w-vol
inspect --type bogus w-run
inspect -f "{{.State.Status}} {{.State.ExitCode}}" w-exit w-run w-made
logs w-exit
logs -n 1 w-exit
logs --tail 0 w-exit
logs --tail 2 -t w-exit
logs --since 1h w-exit
logs --until 1h w-exit
logs --since 2001-01-01 w-exit
logs --since @t1@ w-exit
logs -f w-exit
logs w-made
logs nosuch
logs --details w-exit
top w-run -o pid,comm
top w-run aux
top w-exit
top w-made
top nosuch
top w-paused -o comm
port w-run
port w-run 80
port w-run 80/tcp
port w-run 80/udp
port w-run 81
port w-made
port nosuch
stats --no-stream --format "{{.Name}} {{.PIDs}}" w-run
stats --no-stream nosuch
stats --no-stream -a --format "{{.Name}}"
diff w-made
diff w-run
diff nosuch
version --format "{{.Server.Os}} {{.Server.Arch}} {{.Server.MinAPIVersion}}"
info --format "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}} {{.Images}}"
info --format "{{.OSType}} {{.Architecture}} {{.NCPU}} {{.MemTotal}} {{.KernelVersion}} {{.CgroupDriver}} {{.Name}}"
info --format "{{json .Plugins}} {{json .Swarm}} {{json .RegistryConfig}}"
info --format "{{json .}}"
system df
system df --format "{{.Type}} {{.TotalCount}} {{.Active}}"
system df -v --format "{{json .}}"
container ls -a --format {{.Names}}
container inspect w-made w-exit
container inspect nosuch
wait w-exit
wait nosuch
context ls -q
plugin ls
swarm ca
node ls
service ls
stack ls
secret ls
config ls
""")

# ---- what makes a container: inspected field by field ----

CREATES = table("""
--name ctr
-a stdin -i
-t
-it
-e A=1 -e B=
-e "A=b c" -e FROM_IMAGE=no
-e FROM_IMAGE
--env A
-l a=1 -l b
--label "x=y z"
-h host --domainname dom.example
-u 33:33
-u www-data
-w /some/where
--entrypoint /bin/echo
--entrypoint ""
--memory 64m
--memory 64m --memory-swap 128m --memory-reservation 32m
--memory 64m --memory-swap -1
--memory-swappiness 50
--memory 1m
--memory 4k
--memory-swap 64m
--memory 64m --memory-swap 32m
--memory-reservation 64m --memory 32m
--kernel-memory 50m
--oom-kill-disable -m 64m
--oom-score-adj 500
--oom-score-adj 2000
--cpus 0.5
--cpus 1000
--cpu-shares 512
--cpu-period 50000 --cpu-quota 25000
--cpu-period 1
--cpu-quota 1
--cpus 1 --cpu-quota 1000
--cpuset-cpus 0
--cpuset-cpus 0-1
--cpuset-cpus 999
--cpuset-cpus bogus
--cpuset-mems 0
--blkio-weight 300
--blkio-weight 5
--pids-limit 50
--pids-limit -1
--pids-limit 0
--shm-size 32m
--shm-size 0
--ulimit nofile=100:200
--ulimit nproc=10 --ulimit core=0
--cap-add SYS_ADMIN --cap-add net_admin
--cap-add ALL
--cap-add CAP_BOGUS
--cap-drop ALL --cap-add CHOWN
--privileged
--read-only
--tmpfs /t
--tmpfs /t:size=1m,mode=700
--tmpfs relative
-v /data
-v vol:/data
-v vol:/data:ro
-v vol:/data:nocopy
-v /etc:/host:ro
-v /nosuch-dir-of-parity:/x
-v relative/path:/x
-v /x:y
-v a:/x:bogus
-v vol:/data -v vol:/data
-v /tmp:/
-v w-vol:/a:ro,z
--mount type=volume,src=mv,dst=/m
--mount type=volume,dst=/m,readonly
--mount type=volume,src=mv,dst=/m,volume-nocopy
--mount type=volume,src=mv,dst=/m,volume-label=x=y,volume-driver=local
--mount type=bind,src=/etc,dst=/m,readonly
--mount type=bind,src=/etc,dst=/m,bind-propagation=rshared
--mount type=bind,src=/nosuch-dir-of-parity,dst=/m
--mount type=bind,src=relative,dst=/m
--mount type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=0700
--mount type=tmpfs,dst=relative
--mount type=tmpfs,src=x,dst=/m
--volumes-from w-run
--volumes-from w-run:ro
--volumes-from nosuch
--volumes-from w-run:bogus
--network none
--network host
--network w-net
--network w-net --ip 10.77.1.99
--network w-net --network-alias one --network-alias two
--network w-net --ip 10.99.1.1
--network container:w-run
--network container:nosuch
--network container:w-run -p 80:80
--network container:w-run --hostname x
--network host -p 80:80
--network host --hostname x
--network host --link w-run
--network nosuch
--ip 172.17.0.99
--network-alias x
--mac-address 02:42:ac:11:00:77
--mac-address bogus
--link w-run:web
--link w-run
--link nosuch
--add-host some.where:1.2.3.4
--add-host gw:host-gateway
--dns 9.9.9.9 --dns-search example.org --dns-option ndots:2
-p 80
-p 8123:80/udp
-p 127.0.0.1::80
-p 127.0.0.1:8123-8125:80-82
-p [::1]:8124:80
--expose 80 --expose 90-92/udp
-P --expose 80
--restart always
--restart on-failure:3
--restart unless-stopped
--restart no:3
--restart always:3
--restart bogus
--restart always --rm
--rm
--stop-signal INT
--stop-signal 9
--stop-signal BOGUS
--stop-timeout 5
--init
--health-cmd "exit 0"
--health-cmd "exit 0" --health-interval 1s --health-retries 2 --health-timeout 3s --health-start-period 4s
--health-cmd x --health-interval 1us
--health-cmd x --health-retries -1
--no-healthcheck
--log-driver none
--log-driver local
--log-driver json-file --log-opt max-size=10k --log-opt max-file=3
--log-driver json-file --log-opt bogus=1
--log-opt max-file=x
--log-opt max-size=bogus
--log-opt tag={{.Name}} --log-opt labels=a --log-opt env=B
--device /dev/null
--device /dev/null:/dev/other:r
--device-cgroup-rule "c 1:3 rwm"
--device-read-bps /dev/null:1mb
--security-opt no-new-privileges
--security-opt seccomp=unconfined
--security-opt apparmor=unconfined
--security-opt label=disable
--security-opt bogus
--sysctl net.ipv4.ip_forward=1
--sysctl kernel.msgmax=8192
--sysctl bogus=1
--ipc host
--ipc private
--ipc shareable
--ipc none
--ipc container:w-run
--ipc bogus
--pid host
--pid container:w-run
--pid bogus
--uts host
--uts bogus
--userns host
--userns bogus
--cgroupns private
--cgroupns host
--cgroupns bogus
--cgroup-parent /parity-x
--group-add 10 --group-add wheel
--runtime bogus
--storage-opt size=1g
--isolation default
--isolation bogus
--platform linux/amd64
--annotation a=b
--name w-run
--name "bad name"
--name -x
--name x
--attach bogus
--gpus all
--volume-driver local -v vol:/data
--env-file /etc/hostname
--cidfile /nosuch-dir/x
--pull never
""")

IMAGE_CREATES = table("""
rich:v1
rich:v1 echo hi
--entrypoint /bin/ls rich:v1 /
--no-healthcheck rich:v1
--health-interval 5s rich:v1
-v named:/data rich:v1
-w / -u root -e RICH=no -l rich=2 rich:v1
@rich@
@rich.short@
--pull never nosuch
""")

# ---- what runs ----

RUNS = table("""
run --rm busybox echo out
run --rm busybox sh -c "echo out; echo err >&2; exit 5"
run --rm --network none busybox nosuch
run --rm --network none busybox /etc/passwd
run --rm --network none -w /tmp busybox pwd
run --rm --network none -w /made/here busybox pwd
run --rm --network none -w relative busybox pwd
run --rm --network none -u 33 busybox id
run --rm --network none -u www-data:wheel busybox id
run --rm --network none -u nosuch busybox id
run --rm --network none -u root:nosuch busybox id
run --rm --network none --group-add 10 --group-add 77 busybox id
run --rm --network none --group-add nosuch busybox id
run --rm --network none -h box --domainname d.example busybox sh -c "hostname; cat /proc/sys/kernel/domainname"
run --rm --network none -e A=1 -e FROM_IMAGE busybox env
run --rm --network none --env A=1 rich:v1 env
run --rm --network none rich:v1
run --rm --network none --entrypoint id rich:v1
run --rm --network none --read-only busybox touch /x
run --rm --network none --read-only --tmpfs /t:mode=700,size=1m busybox sh -c "touch /t/x; grep ' /t ' /proc/mounts"
run --rm --network none --cap-drop ALL busybox grep Cap /proc/self/status
run --rm --network none --cap-add SYS_TIME busybox grep CapEff /proc/self/status
run --rm --network none --privileged busybox grep Cap /proc/self/status
run --rm --network none --privileged busybox sh -c "ls /dev | grep -c ."
run --rm --network none busybox ls /dev
run --rm --network none busybox sh -c "cut -d' ' -f2,3 /proc/mounts | grep -v overlay | grep -v cgroup | sort -u"
run --rm --network none --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
run --rm --network none --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
run --rm --network none busybox grep Seccomp: /proc/self/status
run --rm --network none --ulimit nofile=77:88 busybox sh -c "ulimit -n; ulimit -Hn"
run --rm --network none --oom-score-adj 300 busybox cat /proc/self/oom_score_adj
run --rm --network none --shm-size 3m busybox grep /dev/shm /proc/mounts
run --rm --network none --sysctl kernel.msgmax=7777 busybox cat /proc/sys/kernel/msgmax
run --rm --network none --init busybox sh -c "tr '\\0' ' ' < /proc/1/cmdline"
run --rm --network none --device /dev/null:/dev/zip:r busybox ls /dev/zip
run --rm --network none --device /dev/nosuch busybox true
run --rm --network none --tmpfs /t busybox sh -c "grep ' /t ' /proc/mounts"
run --rm --network none -v /etc/hostname:/f:ro busybox sh -c "echo x > /f"
run --rm --network none -v v1:/bin2 busybox sh -c "echo x > /bin2/y; ls /bin2"
run --rm --network none -v v1:/home rich:v1 "ls -ld /home /data"
run --rm --network none --mount type=bind,src=/nosuch-dir-of-parity,dst=/m busybox true
run --rm --network none --volumes-from w-run busybox ls -d /data
run --rm --network none -i busybox cat
run --rm --network none -a stdout busybox sh -c "echo out; echo err >&2"
run --rm --network none -a stderr busybox sh -c "echo out; echo err >&2"
run --rm --network none --pid host busybox true
run --rm --network none --stop-signal USR1 busybox true
run --rm --network none --log-driver none busybox echo quiet
run --rm --network none --cgroupns private busybox cat /proc/self/cgroup
run --rm --network host busybox true
run --rm --network container:w-run busybox ls /sys/class/net
run --rm --network container:w-made busybox true
run --rm --network container:w-exit busybox true
run --rm --network w-net --ip 10.77.1.60 busybox sh -c "ip -4 addr show eth0 | grep inet"
run --rm --network w-net busybox sh -c "nslookup w-net1 | sort -u"
run --rm --network w-net busybox cat /etc/resolv.conf
run --rm --network w-int busybox ip route
run --rm --add-host some.where:1.2.3.4 --network none busybox grep some /etc/hosts
run --rm --network w-net --ip 10.77.1.50 busybox true
run --rm --name w-run busybox true
run --rm --cidfile /nosuch-dir/x busybox true
run --rm --network none --ipc container:w-run busybox true
run --rm --memory 6m --network none busybox true
run --rm --memory 32m --network none busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes
run --rm --network none --cpu-shares 100 --pids-limit 77 busybox cat /sys/fs/cgroup/pids/pids.max
run --rm --network none --sysctl bogus=1 busybox true
run --rm --network none --sysctl kernel.bogus=1 busybox true
run --rm --network none --runtime bogus busybox true
run -d --network none busybox nosuch
""")

# ---- lives ----

LIVES = table("""
create --name ctr busybox true ; start ctr ; wait ctr ; inspect ctr ; start -a ctr ; logs ctr
run -d --name ctr --network none --stop-signal KILL busybox sleep 100 ; stop ctr ; inspect ctr ; ps -a --filter name=^/ctr$
run -d --name ctr --network none busybox sleep 100 ; kill ctr ; wait ctr ; inspect ctr ; kill ctr
run -d --name ctr --network none busybox sleep 100 ; kill -s BOGUS ctr ; kill -s 99 ctr ; kill -s USR1 ctr ; rm -f ctr
run -d --name ctr --network none --stop-signal KILL busybox sleep 100 ; restart -t 0 ctr ; inspect ctr ; rm ctr ; rm -f ctr
run -d --name ctr --network none busybox sleep 100 ; pause ctr ; pause ctr ; inspect ctr ; unpause ctr ; unpause ctr ; rm -f ctr
run -d --name ctr --network none busybox sleep 100 ; stop -t 0 ctr ; stop ctr ; start ctr ; start ctr
run -d --name ctr --network none busybox sleep 100 ; rename ctr other ; rename other other ; rename other w-run ; rename other "a b" ; rename nosuch x
run -d --name ctr --network none busybox sleep 100 ; exec ctr echo hi ; exec ctr sh -c "exit 9" ; exec ctr nosuch ; exec -w /tmp ctr pwd
run -d --name ctr --network none busybox sleep 100 ; exec -u 33 ctr id -u ; exec -e A=1 ctr sh -c "env | sort" ; exec -u nosuch ctr id ; exec -d ctr true
run -d --name ctr --network none busybox sleep 100 ; exec --privileged ctr grep CapEff /proc/self/status ; exec -w /nosuch ctr pwd
run -d --name ctr --network none -m 64m busybox sleep 100 ; update --memory 32m ctr ; inspect ctr
run -d --name ctr --network none busybox sleep 100 ; update --cpus 0.5 ctr ; update --cpu-shares 300 ctr ; inspect ctr
run -d --name ctr --network none busybox sleep 100 ; update --restart always ctr ; update --pids-limit 20 ctr ; inspect ctr
run -d --name ctr --network none busybox sleep 100 ; update --memory 1m ctr ; update --restart bogus ctr ; update nosuch
run -d --name ctr --network none --restart on-failure:1 busybox false ; wait ctr ; wait ctr
run -d --name ctr --network none --rm --restart always busybox true
create --name ctr busybox true ; rm ctr ; rm ctr ; rm -f ctr ; rm -v nosuch
create --name ctr busybox true ; pause ctr ; stop ctr ; kill ctr ; exec ctr true ; attach ctr ; unpause ctr ; top ctr
create --name ctr --rm --network none busybox true ; start -a ctr ; inspect ctr
create --name ctr -i --network none busybox cat ; start -ai ctr ; logs ctr
exec w-exit true ; exec nosuch true ; exec w-paused true
attach nosuch ; attach w-exit ; attach w-paused
start nosuch ; stop nosuch ; restart nosuch ; pause nosuch ; unpause nosuch ; kill nosuch ; rm nosuch
start w-paused ; stop w-exit ; pause w-exit ; unpause w-run ; rm w-run ; rm w-paused ; kill w-exit ; kill w-made
rename w-run w-exit ; rename w-run "" ; rename w-run "x/y"
network create n ; network inspect n ; network create n ; network rm n ; network rm n
network create --subnet 10.66.0.0/24 --gateway 10.66.0.7 --ip-range 10.66.0.128/25 --label a=b n ; network inspect n
network create --subnet 10.66.0.0/24 --aux-address x=10.66.0.9 -o com.docker.network.bridge.name=br-parity n ; network inspect n
network create --internal --attachable n ; network inspect n
network create --subnet 10.77.1.0/24 n
network create --subnet bogus n ; network create --gateway 1.2.3.4 n ; network create --subnet 10.66.0.0/24 --gateway 10.67.0.1 n
network create --subnet 10.66.0.0/24 --ip-range 10.67.0.0/24 n ; network create -d host n
network create bridge ; network create host ; network create none ; network create default ; network create "a b"
network rm bridge ; network rm host ; network rm w-net ; network rm nosuch
network create --ipv6 --subnet fd00:77::/64 n ; network inspect n
network create -d macvlan -o parent=nosuch0 n
network create -o com.docker.network.bridge.enable_icc=false -o com.docker.network.driver.mtu=1400 n ; network inspect n
network create --ipam-opt a=b n ; network inspect n
network create n ; run -d --name ctr --stop-signal KILL busybox sleep 100 ; network connect n ctr ; inspect ctr ; network disconnect n ctr ; network rm n
network create n ; create --name ctr busybox true ; network connect n ctr ; network connect n ctr ; inspect ctr ; network disconnect n ctr
network create --subnet 10.66.0.0/24 n ; run -d --name ctr busybox sleep 100 ; network connect --ip 10.66.0.9 --alias a n ctr ; network disconnect n ctr
network create --subnet 10.66.0.0/24 n ; run -d --name ctr busybox sleep 100 ; network connect --ip 10.99.0.9 n ctr ; network disconnect n ctr
create --name ctr busybox true ; network connect w-net nosuch ; network connect nosuch ctr ; network disconnect w-net ctr ; network disconnect nosuch ctr
network connect host w-net1 ; network connect none w-net1 ; network connect w-net w-net1 ; network disconnect -f w-net nosuch
network create n ; run -d --name ctr --network n busybox sleep 100 ; network rm n ; network inspect n ; network disconnect n ctr
network prune -f --filter label=nosuch ; network prune -f --filter bogus=1
volume create vv ; volume create vv ; volume inspect vv ; volume rm vv ; volume rm vv
volume create --label a=b -o type=tmpfs -o device=tmpfs -o o=size=1m vv ; volume inspect vv
volume create vv ; volume create -o type=tmpfs -o device=tmpfs vv ; volume create vv
volume create "a b" ; volume create a/b ; volume create -o bogus=1 vv ; volume create q
volume create -o type=nfs vv ; volume create -o device=/x vv ; volume create -o o=size=1m vv
volume rm w-vol ; volume rm nosuch ; volume rm -f nosuch
volume create vv ; run --rm --network none -v vv:/v busybox sh -c "echo data > /v/f" ; run --rm --network none -v vv:/v busybox cat /v/f
volume create --label x=1 vv ; volume prune -f --filter label=x=1
volume prune -f --filter bogus=1 ; volume prune -f --filter label=nosuch
tag busybox t:1 ; tag busybox t:1 ; tag nosuch x ; tag busybox BAD ; tag busybox bad:tag:x ; rmi t:1 ; rmi t:1
tag busybox t:1 ; tag rich:v1 t:1 ; images t ; rmi t:1
tag busybox t ; image inspect t ; rmi t ; image rm t ; rmi -f t
rmi @busybox.short@ ; rmi nosuch ; rmi nosuch nosuch2 ; rmi sha256:1111111111111111111111111111111111111111111111111111111111111111
rmi busybox:latest@sha256:1111111111111111111111111111111111111111111111111111111111111111
image prune -f ; image prune -f --filter bogus=1 ; image prune -f --filter label=x --filter dangling=true
container prune -f --filter label=nosuch ; container prune -f --filter bogus=1
create --name ctr --label gone=1 busybox true ; container prune -f --filter label=gone=1
system prune -f --filter label=nosuch
builder prune -f
commit w-exit ci:1 ; image inspect ci:1 ; run --rm --network none ci:1 echo hi
commit -a me -m note -c "ENV A=1" -c "CMD [\\"true\\"]" -c "EXPOSE 99" -c "LABEL x=y" w-made ci:2 ; image inspect ci:2 ; history --format "{{.Comment}}" ci:2
commit w-run ; commit nosuch x ; commit w-exit BAD ; commit -c "BOGUS x" w-exit ci:3 ; commit -c "RUN true" w-exit ci:4
create --name ctr busybox true ; cp /etc/hostname ctr:/copied ; diff ctr ; cp ctr:/copied - ; cp ctr:/nosuch - ; cp nosuch:/x -
cp w-exit:/etc/passwd - ; cp w-run:/etc - ; cp /etc/hostname w-run:/nosuch/dir/x ; cp w-run:/etc/passwd /nosuch-dir/x
run --name ctr --network none busybox sh -c "echo x > /new; rm /etc/group; mkdir /d; echo y >> /etc/passwd; touch /d/z" ; diff ctr
export nosuch ; save nosuch ; load -i /nosuch
import /nosuch-file imp:1
save busybox -o /dev/null ; save busybox second:1 -o /dev/null ; save busybox nosuch -o /dev/null
pull BAD ; pull busybox:a:b ; push nosuch ; push BAD ; pull a/b/c@sha256:1
logout localhost:1
run -d --name ctr --network none --health-cmd true --health-interval 1h busybox sleep 100 ; inspect -f "{{.State.Health.Status}}" ctr
run --name ctr --network none -l x=1 busybox true ; ps -a --filter label=x --format "{{.Names}} {{.Image}} {{.Command}} {{.Status}}"
run --name ctr --network none busybox sh -c "kill -9 $$" ; inspect ctr
run --name ctr --network none -m 8m busybox sh -c "tail /dev/zero" ; inspect -f "{{.State.ExitCode}} {{.State.Status}}" ctr
checkpoint ls w-run ; checkpoint create w-run x
plugin inspect nosuch ; plugin rm nosuch ; plugin enable nosuch ; plugin disable nosuch ; plugin set nosuch a=b
swarm leave ; swarm join-token worker ; swarm unlock-key ; node inspect self ; service inspect nosuch ; secret inspect nosuch
service create busybox ; service rm nosuch ; service ps nosuch ; secret rm nosuch ; config rm nosuch ; node rm nosuch ; stack ps x
""")


def name_of(text):
    return re.sub(r"[^\w.=,:/{}+@-]+", "_", text)[:120].strip("_")


def cases():
    found = []
    for command, values in FILTERS.items():
        for value in values.split():
            extra = " ".join(f"--filter {v}" for v in value.split(",")) if value != "a" else ""
            found.append(Case(f"filter/{command.split()[0]}/{value}", f"{command} {extra}"))
    found += [Case("look/" + name_of(line), line) for line in LOOKS]
    found += [Case("create/" + name_of(line), f"create --network none --name ctr {line} busybox sleep 1 ; GET /containers/ctr/json"
                   if "--name" not in line and "--net" not in line and not re.search(r"--(ip|mac|link)\b|-[pP] |-h ", line)
                   else f"create {'' if '--name' in line else '--name ctr'} {line} busybox sleep 1 ; GET /containers/ctr/json")
              for line in CREATES]
    found += [Case("create/" + name_of(line), f"create --name ctr --network none {line} ; GET /containers/ctr/json")
              for line in IMAGE_CREATES]
    found += [Case("run/" + name_of(line.removeprefix("run ")), line, input=b"typed\n" if "-i " in line else b"")
              for line in RUNS]
    found += [Case("life/" + name_of(line), line, input=b"typed\n" if " -ai " in line else b"") for line in LIVES]
    assert len({c.id for c in found}) == len(found), [c.id for c in found if [d.id for d in found].count(c.id) > 1]
    return found
