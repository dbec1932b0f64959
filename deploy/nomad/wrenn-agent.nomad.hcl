# On every machine that has joined the fleet (`wrenn-agent --register`, once, with WRENN_DIR=/var/lib/wrenn).
job "wrenn-agent" {
  type = "system"

  group "agent" {
    task "wrenn-agent" {
      driver       = "raw_exec"
      kill_timeout = "300s" # it pauses every sandbox, which writes their memory
      kill_signal  = "SIGTERM"
      config {
        command = "/usr/local/bin/wrenn-agent"
      }
      env {
        WRENN_DIR              = "/var/lib/wrenn"
        WRENN_HOST_LISTEN_ADDR = "0.0.0.0:50051"
      }
      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
